// Wine before 9 finds api-ms-win-core-realtime-l1-1-1.dll in its own kernelbase, which lacks
// QueryInterruptTime, the clock that counts suspension. `../wine` has programs ask this one instead. Nothing
// suspends Wine, so the clock that does not count it shows the same.
#include <windows.h>

__declspec(dllexport) void WINAPI interrupt_time(PULONGLONG time) __asm__("QueryInterruptTime");

void WINAPI interrupt_time(PULONGLONG time) {
    QueryUnbiasedInterruptTime(time);
}
