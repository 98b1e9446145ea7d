// A stand-in for MetaTrader 5's terminal64.exe, for tests.
//
// It has the pipe on which MetaQuotes' Python package looks for a terminal of this path, and passes what
// the package writes on to the tests' broker, and the broker's replies back. What a terminal knows and
// decides is the broker's; here is only what has to be a Windows program. `broker.txt` beside it names the
// broker's port on the loopback.
//
// Frames of both are `[u32 length of the rest][u32 command][body]`. A connection to the broker begins with the
// terminal's folder and command line as command HELLO. A reply of command DIE ends the process as a crash
// would, and so does the end of the connection that it opened first: no terminal outlives its test.

#include <winsock2.h>
#include <windows.h>
#include <wincrypt.h>
#include <stdio.h>

#define HELLO 0xffffffffu
#define DIE 0xfffffffeu
#define LONGEST (1u << 30)

static u_short port;
static WCHAR folder[MAX_PATH];

static void end(const char *why) {
    fprintf(stderr, "terminal64: %s\n", why);
    ExitProcess(3);
}

static BOOL socket_all(SOCKET peer, char *data, DWORD length, BOOL sends) {
    while (length > 0) {
        int moved = sends ? send(peer, data, length, 0) : recv(peer, data, length, 0);
        if (moved <= 0) return FALSE;
        data += moved;
        length -= moved;
    }
    return TRUE;
}

static BOOL pipe_all(HANDLE pipe, char *data, DWORD length, BOOL writes) {
    while (length > 0) {
        DWORD moved = 0;
        BOOL done = writes ? WriteFile(pipe, data, length, &moved, NULL) : ReadFile(pipe, data, length, &moved, NULL);
        if (!done || moved == 0) return FALSE;
        data += moved;
        length -= moved;
    }
    return TRUE;
}

static SOCKET connect_to_broker(void) {
    SOCKET broker = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(broker, (struct sockaddr *)&address, sizeof address) != 0) end("the tests' broker is gone");
    BOOL yes = TRUE;
    setsockopt(broker, IPPROTO_TCP, TCP_NODELAY, (char *)&yes, sizeof yes);
    WCHAR text[2 * MAX_PATH + 2048];
    DWORD length = 2 * (DWORD)_snwprintf(text, sizeof text / 2 - 1, L"%ls\n%ls", folder, GetCommandLineW());
    DWORD head[2] = {length + 4, HELLO};
    if (!socket_all(broker, (char *)head, 8, TRUE) || !socket_all(broker, (char *)text, length, TRUE)) end("no hello");
    return broker;
}

// Serves one connection of the package.
static DWORD WINAPI serve(void *argument) {
    HANDLE pipe = argument;
    SOCKET broker = connect_to_broker();
    DWORD capacity = 1 << 16;
    // Room for the length, too, so that a frame is one write.
    char *frame = malloc(capacity + 4);
    for (;;) {
        if (!pipe_all(pipe, frame, 4, FALSE)) break;
        for (BOOL reply = FALSE; reply <= TRUE; reply++) {
            if (reply && !socket_all(broker, frame, 4, FALSE)) goto gone;
            DWORD length = *(DWORD *)frame;
            if (length < 4 || length > LONGEST) end("a frame has an odd length");
            if (length > capacity) {
                capacity = length;
                frame = realloc(frame, capacity + 4);
            }
            if (!reply) {
                if (!pipe_all(pipe, frame + 4, length, FALSE)) goto gone;
                if (!socket_all(broker, frame, length + 4, TRUE)) goto gone;
            } else {
                if (!socket_all(broker, frame + 4, length, FALSE)) goto gone;
                if (*(DWORD *)(frame + 4) == DIE) end("as the test wants");
                if (!pipe_all(pipe, frame, length + 4, TRUE)) goto gone;
            }
        }
    }
gone:
    closesocket(broker);
    DisconnectNamedPipe(pipe);
    CloseHandle(pipe);
    free(frame);
    return 0;
}

static DWORD WINAPI watch(void *argument) {
    char nothing;
    recv((SOCKET)argument, &nothing, 1, 0);
    end("the test is over");
    return 0;
}

// `\\.\pipe\MT5.Terminal.` and the SHA-256 of `\\?\` and the program's path in lower case, in upper-case hex.
static void name_of_pipe(WCHAR *name) {
    WCHAR path[MAX_PATH + 8] = L"\\\\?\\";
    GetModuleFileNameW(NULL, path + 4, MAX_PATH);
    wcscpy(folder, path + 4);
    *wcsrchr(folder, L'\\') = 0;
    CharLowerW(path + 4);
    HCRYPTPROV provider;
    HCRYPTHASH hash;
    BYTE digest[32];
    DWORD length = sizeof digest;
    if (!CryptAcquireContextW(&provider, NULL, NULL, PROV_RSA_AES, CRYPT_VERIFYCONTEXT)
        || !CryptCreateHash(provider, CALG_SHA_256, 0, 0, &hash)
        || !CryptHashData(hash, (BYTE *)path, 2 * (DWORD)wcslen(path), 0)
        || !CryptGetHashParam(hash, HP_HASHVAL, digest, &length, 0)) end("no SHA-256");
    name += wsprintfW(name, L"\\\\.\\pipe\\MT5.Terminal.");
    for (int at = 0; at < 32; at++) name += wsprintfW(name, L"%02X", digest[at]);
}

int WINAPI WinMain(HINSTANCE self, HINSTANCE before, char *command_line, int show) {
    WCHAR name[128], file[MAX_PATH + 16];
    name_of_pipe(name);
    _snwprintf(file, MAX_PATH + 15, L"%ls\\broker.txt", folder);
    FILE *broker_file = _wfopen(file, L"r");
    unsigned number = 0;
    if (!broker_file || fscanf(broker_file, "%u", &number) != 1) end("no port in broker.txt");
    port = (u_short)number;
    WSADATA data;
    WSAStartup(MAKEWORD(2, 2), &data);
    CreateThread(NULL, 0, watch, (void *)connect_to_broker(), 0, NULL);
    // Like the real one: only one in a folder, the second ends at once.
    DWORD first = FILE_FLAG_FIRST_PIPE_INSTANCE;
    for (;;) {
        HANDLE pipe = CreateNamedPipeW(name, PIPE_ACCESS_DUPLEX | first, PIPE_TYPE_BYTE | PIPE_WAIT,
                                       PIPE_UNLIMITED_INSTANCES, 1 << 20, 1 << 20, 0, NULL);
        if (pipe == INVALID_HANDLE_VALUE) return first ? 0 : 4;
        first = 0;
        if (ConnectNamedPipe(pipe, NULL) || GetLastError() == ERROR_PIPE_CONNECTED) {
            CreateThread(NULL, 0, serve, pipe, 0, NULL);
        } else {
            CloseHandle(pipe);
        }
    }
}
