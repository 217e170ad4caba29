§{title}
// Made by mbn-deploy §{version}; do not edit.
#include "§{name}.h"

#if defined(__cplusplus)
#define ALIGNED alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ALIGNED _Alignas(16)
#else
#define ALIGNED __attribute__((aligned(16)))
#endif

ALIGNED const unsigned char §{name}_model[§{macro}_MODEL_BYTES] = {
§{data}
};
