/* A driver of CUDA that answers as STUB_INIT (cuInit's error), STUB_VERSION and STUB_COUNT say. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

static int answer(const char *name, int otherwise) {
    char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

int cuInit(unsigned flags) { return answer("STUB_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = answer("STUB_VERSION", 99000); return 0; }
int cuDeviceGetCount(int *count) { *count = answer("STUB_COUNT", 0); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
static int unknown(void) { return 999; }

/* CUDA's runtime asks for each function by name. */
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long long flags, int *status) {
    void *self = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_LAZY);
    void *found = self ? dlsym(self, name) : NULL;
    *function = found ? found : (void *)unknown;
    if (status) *status = 0;
    return 0;
}
int cuGetProcAddress(const char *name, void **function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
