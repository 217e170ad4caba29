"""Compile and run C and C++ programs of tests, and declarations that stand for tflite-micro's headers."""

import shutil
import subprocess

import pytest

compiler = pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++")), reason="no C compiler")


def compiled(folder, code, *options, language="c"):
    """What the program prints; warnings are errors."""
    program = folder / f"main.{'c' if language == 'c' else 'cc'}"
    program.write_text(code)
    words = ["gcc", "-std=c11"] if language == "c" else ["g++", "-std=c++17"]
    subprocess.run([*words, "-Wall", "-Wextra", "-Werror", *options, program, "-o", folder / "main"], check=True)
    return subprocess.run([folder / "main"], check=True, capture_output=True).stdout


MICRO_STUBS = {
    "micro_mutable_op_resolver.h": """#pragma once
typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
#define TF_LITE_ENSURE_STATUS(a) do { const TfLiteStatus s = (a); if (s != kTfLiteOk) return s; } while (0)
namespace tflite {
struct MicroOpResolver {};
template <unsigned int tOpCount> struct MicroMutableOpResolver : MicroOpResolver {
  unsigned int count = 0;
  TfLiteStatus Next() { return count++ < tOpCount ? kTfLiteOk : kTfLiteError; }
#define OP(name) TfLiteStatus name() { return Next(); }
OPS
};
}
""",
    "micro_interpreter.h": """#pragma once
#include <stddef.h>
#include <stdint.h>
#include "micro_mutable_op_resolver.h"
struct TfLiteTensor { struct { int8_t* int8; } data; };
namespace tflite {
struct Model { const void* at; };
inline const Model* GetModel(const void* buffer) { static Model model; model.at = buffer; return &model; }
struct MicroInterpreter {
  int8_t in[4096] = {}, out[4096] = {}; TfLiteTensor tensor[2];
  MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t) {
    tensor[0].data.int8 = in;
    tensor[1].data.int8 = out;
  }
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { out[3] = in[5]; return kTfLiteOk; }
  TfLiteTensor* input(int) { return &tensor[0]; }
  TfLiteTensor* output(int) { return &tensor[1]; }
};
}
""",
}
