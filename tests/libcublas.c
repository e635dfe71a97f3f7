/* Three functions of cuBLAS, with its signatures, for matrices in the host's memory. */
#include <stddef.h>

static void *stream, *space;
static size_t space_size;

int cublasSetStream_v2(void *handle, void *given) { return stream = given, space = NULL, handle ? 0 : 1; }
int cublasSetWorkspace_v2(void *handle, void *given, size_t size) {
  return space = given, space_size = size, handle ? 0 : 1;
}
int cublasSgemm_v2(void *handle, int transa, int transb, int m, int n, int k, const float *alpha, const float *A, int lda,
                   const float *B, int ldb, const float *beta, float *C, int ldc) {
  if (!handle || !stream || !space || !space_size) return 1;
  if (ldc < m || lda < (transa ? k : m) || ldb < (transb ? n : k)) return 7;
  for (int j = 0; j < n; j++)
    for (int i = 0; i < m; i++) {
      float sum = 0;
      for (int l = 0; l < k; l++) sum += A[transa ? l + i * lda : i + l * lda] * B[transb ? j + l * ldb : l + j * ldb];
      C[i + j * ldc] = *alpha * sum + (*beta ? *beta * C[i + j * ldc] : 0);
    }
  return 0;
}
