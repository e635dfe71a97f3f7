/* A driver of two GPUs of compute capability 9.0 that aren't there: it says yes to everything, and runs nothing.

   What numba-cuda and cuda.core ask of it, for compiling and launching kernels, is here; device memory is the host's.
   Launches, attributes of kernels and modules that are loaded are written to the file that FAKE_DRIVER_LOG names, a line
   each, and so are functions that are called but not here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_CONTEXT = 201, NOT_SUPPORTED = 801 };
enum { N_DEVICES = 2, MOST_SHARED = 227 * 1024, WITHOUT_ASKING = 48 * 1024, NAME = 4096 };
enum { MAX_DYNAMIC_SHARED = 8, PER_THREAD_DEFAULT_STREAM = 2 };
typedef uint64_t Address;
typedef struct {
  unsigned grid[3], block[3], shared;
  void *stream, *attributes;
  unsigned n_attributes;
} Config;
typedef struct {
  char name[NAME];
  unsigned allowed[N_DEVICES];
} Kernel;

static int contexts[N_DEVICES];
static __thread int *current;

static void record(const char *format, ...) {
  static FILE *file;
  if (!file) {
    const char *path = getenv("FAKE_DRIVER_LOG");
    file = path ? fopen(path, "a") : stderr;
  }
  va_list values;
  va_start(values, format);
  vfprintf(file, format, values);
  va_end(values);
  fputc('\n', file);
  fflush(file);
}

EXPORT int cuInit(unsigned flags) { return SUCCESS; }
EXPORT int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT int cuGetErrorName(int error, const char **name) { return *name = "CUDA_ERROR_OF_THE_STAND_IN", SUCCESS; }
EXPORT int cuGetErrorString(int error, const char **text) { return *text = "refused by the stand-in", SUCCESS; }

EXPORT int cuDeviceGetCount(int *n) { return *n = N_DEVICES, SUCCESS; }
EXPORT int cuDeviceGet(int *device, int index) { return *device = index, SUCCESS; }
EXPORT int cuDeviceGetName(char *name, int size, int device) {
  return snprintf(name, size, "Stand-in %d", device), SUCCESS;
}
EXPORT int cuDeviceGetUuid_v2(void *id, int device) { return memset(id, device + 1, 16), SUCCESS; }
EXPORT int cuDeviceTotalMem_v2(size_t *size, int device) { return *size = 80ull << 30, SUCCESS; }
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: *value = 1024; break;           /* threads per block */
    case 8: *value = WITHOUT_ASKING; break; /* shared memory per block */
    case 10: *value = 32; break;            /* threads of a warp */
    case 16: *value = 132; break;           /* multiprocessors */
    case 75: *value = 9; break;             /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = MOST_SHARED; break; /* shared memory per block, for those that ask */
    default: *value = 1;
  }
  return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &contexts[device], SUCCESS; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  return *flags = 0, *active = 1, SUCCESS;
}
EXPORT int cuCtxGetCurrent(void **context) { return *context = current, SUCCESS; }
EXPORT int cuCtxSetCurrent(void *context) { return current = context, SUCCESS; }
EXPORT int cuCtxPushCurrent_v2(void *context) { return current = context, SUCCESS; }
EXPORT int cuCtxPopCurrent_v2(void **context) { return *context = current, current = NULL, SUCCESS; }
EXPORT int cuCtxGetDevice(int *device) { return current ? (*device = current - contexts, SUCCESS) : INVALID_CONTEXT; }
EXPORT int cuCtxGetId(void *context, uint64_t *id) { return *id = (int *)context - contexts + 1, SUCCESS; }
EXPORT int cuCtxGetStreamPriorityRange(int *least, int *most) { return *least = 0, *most = -1, SUCCESS; }
EXPORT int cuCtxSynchronize(void) { return record("synchronize"), SUCCESS; }

EXPORT int cuMemAlloc_v2(Address *address, size_t size) { return *address = (Address)malloc(size), SUCCESS; }
EXPORT int cuMemFree_v2(Address address) { return free((void *)address), SUCCESS; }
EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = 79ull << 30, *total = 80ull << 30, SUCCESS; }
EXPORT int cuMemcpyHtoD_v2(Address to, const void *from, size_t size) { return memcpy((void *)to, from, size), SUCCESS; }
EXPORT int cuMemcpyDtoH_v2(void *to, Address from, size_t size) { return memcpy(to, (void *)from, size), SUCCESS; }

EXPORT int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
  *library = malloc(1);
  record("load %d", current ? (int)(current - contexts) : -1);
  return SUCCESS;
}
EXPORT int cuLibraryUnload(void *library) { return SUCCESS; }
EXPORT int cuLibraryGetModule(void **module, void *library) { return *module = library, SUCCESS; }
EXPORT int cuLibraryGetKernel(void **kernel, void *library, const char *name) {
  Kernel *made = calloc(1, sizeof(Kernel));
  snprintf(made->name, NAME, "%s", name);
  for (int device = 0; device < N_DEVICES; device++) made->allowed[device] = WITHOUT_ASKING;
  return *kernel = made, SUCCESS;
}
EXPORT int cuKernelGetFunction(void **function, void *kernel) { return *function = kernel, SUCCESS; }
EXPORT int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) {
  return *value = attribute == 0 ? 512 : attribute == 4 ? 128 : 0, SUCCESS;
}
EXPORT int cuFuncGetAttribute(int *value, int attribute, void *function) { return *value = 0, SUCCESS; }
EXPORT int cuKernelSetAttribute(int attribute, int value, void *kernel, int device) {
  if (attribute != MAX_DYNAMIC_SHARED || value > MOST_SHARED || device < 0 || device >= N_DEVICES) return INVALID_VALUE;
  ((Kernel *)kernel)->allowed[device] = value;
  record("attribute %d %d %d %s", attribute, value, device, ((Kernel *)kernel)->name);
  return SUCCESS;
}

static int launch(const Config *c, void *function, const char *binding) {
  if (!current) return INVALID_CONTEXT;
  Kernel *kernel = function;
  int device = current - contexts;
  const unsigned *g = c->grid, *b = c->block;
  if (c->shared > kernel->allowed[device] || b[0] * b[1] * b[2] > 1024 || !g[0] || !b[0]) return INVALID_VALUE;
  record("%s %u,%u,%u %u,%u,%u %u %llu %d %s", binding, g[0], g[1], g[2], b[0], b[1], b[2], c->shared,
         (unsigned long long)c->stream, device, kernel->name);
  return SUCCESS;
}
EXPORT int cuLaunchKernelEx(const Config *c, void *function, void **values, void **extra) {
  return launch(c, function, "launch");
}
/* The same for programs whose stream 0 is a thread's own. */
EXPORT int cuLaunchKernelEx_ptsz(const Config *c, void *function, void **values, void **extra) {
  return launch(c, function, "launch_ptsz");
}

EXPORT int cuStreamCreate(void **stream, unsigned flags) { return *stream = malloc(1), SUCCESS; }
EXPORT int cuStreamGetCtx(void *stream, void **context) { return *context = current, SUCCESS; }
EXPORT int cuStreamSynchronize(void *stream) { return record("synchronize"), SUCCESS; }
EXPORT int cuEventCreate(void **event, unsigned flags) { return *event = malloc(1), SUCCESS; }
EXPORT int cuEventRecord(void *event, void *stream) { return record("event"), SUCCESS; }
EXPORT int cuEventDestroy_v2(void *event) { return SUCCESS; }
EXPORT int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return record("event"), SUCCESS; }

static int absent(void) { return record("absent"), NOT_SUPPORTED; }

EXPORT int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  static const char *const suffixes[] = {"_ptsz", "_v2", ""};
  char symbol[256];
  Dl_info self;
  dladdr((void *)cuInit, &self);
  void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  *function = (void *)absent;
  for (int k = flags & PER_THREAD_DEFAULT_STREAM ? 0 : 1; k < 3; k++) {
    snprintf(symbol, sizeof symbol, "%s%s", name, suffixes[k]);
    void *found = dlsym(library, symbol);
    if (found) {
      *function = found;
      break;
    }
  }
  if (status) *status = 0;
  return SUCCESS;
}
EXPORT int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
