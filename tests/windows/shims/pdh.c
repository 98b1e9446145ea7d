// Wine before 9 lacks PdhEnumObjectsW, and a program that calls it ends. This one says of everything that
// there are no such counters, so that a processor's use reads 0.
#include <windows.h>

#define NO_COUNTER ((LONG)0x800007D5)

#define ABSENT(name) \
    __declspec(dllexport) LONG WINAPI name(void) { return NO_COUNTER; }

ABSENT(PdhAddEnglishCounterW)
ABSENT(PdhCloseQuery)
ABSENT(PdhCollectQueryData)
ABSENT(PdhEnumObjectsW)
ABSENT(PdhGetFormattedCounterArrayW)
ABSENT(PdhGetFormattedCounterValue)
ABSENT(PdhOpenQueryW)
ABSENT(PdhRemoveCounter)
