§{title}
// The .tflite file as an array for TensorFlow Lite Micro. Made by mbn-deploy §{version}; do not edit.
// sha256 of the array: §{sha256}
#ifndef §{macro}_H_
#define §{macro}_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Input: one picture, rows from the top, RGB, each value a pixel minus 128 as int8.
#define §{macro}_HEIGHT §{height}
#define §{macro}_WIDTH §{width}
#define §{macro}_CHANNELS §{channels}
#define §{macro}_INPUT_OFFSET (-§{input_offset})

// Output: §{answers}, an int8 each; real = (value - zero point) * scale.
#define §{macro}_CLASSES §{classes}
#define §{macro}_OUTPUT_SCALE §{output_scale}f
#define §{macro}_OUTPUT_ZERO_POINT (§{output_zero_point})

// The smallest arena, aligned to 16 bytes, with which TensorFlow Lite Micro ran the model on a 64-bit machine. Pointers in
// it are smaller on 32 bits; kernels for your processor (CMSIS-NN, ESP-NN) may need memory of their own.
#define §{macro}_ARENA_BYTES §{arena}

#define §{macro}_MODEL_BYTES §{bytes}
extern const unsigned char §{name}_model[§{macro}_MODEL_BYTES];

#ifdef __cplusplus
}
#endif

#endif  // §{macro}_H_
