/* Small operations of a decoder layer, each in one pass over memory, for bfloat16 and float32.
 *
 * PyTorch spends more on starting and joining these operations than on their arithmetic. Every row is computed by one
 * thread in an order that depends on nothing but its own length: neither the batch nor the number of threads changes a
 * bit. `ops.py` documents the shapes; `build.py` compiles this file.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORTH_THREADS 8192 /* numbers; below it, waking a second thread costs more than it saves */
#define BLOCK 128          /* tokens of the vocabulary summed in float32 before float64 takes over */
#define ROWS_A_BLOCK 32    /* rows whose weight gradients are summed before the blocks are */
/* floats that a thread of attend_heads needs */
#define SCRATCH(heads, kv_heads, width, columns) ((heads) / (kv_heads) * ((columns) + (width) + 1) + (width))

typedef uint16_t bf16;

static inline float from_bf16(bf16 number) {
  uint32_t bits = (uint32_t)number << 16;
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}

static inline bf16 to_bf16(float number) { /* to nearest, ties to even; not-a-number stays one */
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return number != number ? 0x7fc0 : (bf16)rounded;
}

/* exp with the coefficients of Cephes' expf; 0 below the range of normal numbers. */
static inline float exponential(float x) {
  float bounded = x < -87.0f ? -87.0f : x; /* comparisons, not fminf: those keep the loops from using vectors */
  bounded = bounded > 88.0f ? 88.0f : bounded;
  float power = rintf(bounded * 1.44269504f);
  float rest = bounded - power * 0.693359375f + power * 2.12194440e-4f;
  float series = 1.9875691500e-4f;
  series = series * rest + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  series = series * rest * rest + rest + 1.0f;
  int32_t bits = ((int32_t)power + 127) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? 0.0f : series * scale;
}

/* A float32 number as the bfloat16 number it rounds to (halves away from zero) and how far its bits lie from it. */
static inline float joined(bf16 rounded, int16_t below) {
  uint32_t bits = ((uint32_t)rounded << 16) + (uint32_t)(int32_t)below;
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}

static inline void part(float number, bf16 *rounded, int16_t *below) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  *rounded = (bf16)((bits + 0x8000) >> 16);
  *below = (int16_t)bits;
}

#define GLUE2(name, suffix) name##_##suffix
#define GLUE(name, suffix) GLUE2(name, suffix)
#define NAME(name) GLUE(name, KIND)

#define KIND bfloat16
#define T bf16
#define LOAD(x) from_bf16(x)
#define STORE(x) to_bf16(x)
#define WHOLE(i) joined(parameter[i], below[i])
#define KEEP(i, x) part(x, parameter + (i), below + (i))
#include "kernels.inc"
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "decode.inc"
#include "attention.inc"
#endif
#undef KIND
#undef T
#undef LOAD
#undef STORE
#undef WHOLE
#undef KEEP

#define KIND float32
#define T float
#define LOAD(x) (x)
#define STORE(x) (x)
#define WHOLE(i) parameter[i]
#define KEEP(i, x) parameter[i] = x
#include "kernels.inc"
