§{title}
// Made by mbn-deploy §{version}; do not edit. One picture of the calibration set, and the answer of TensorFlow Lite
// Micro's reference kernels; other kernels may differ by a few levels.
#ifndef §{macro}_GOLDEN_H_
#define §{macro}_GOLDEN_H_

#include "§{name}.h"

static const int8_t §{name}_golden_input[§{macro}_HEIGHT * §{macro}_WIDTH * §{macro}_CHANNELS] = {
§{golden_input}
};

static const int8_t §{name}_golden_output[§{macro}_CLASSES] = {
§{golden_output}
};

#endif  // §{macro}_GOLDEN_H_
