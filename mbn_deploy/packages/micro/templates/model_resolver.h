§{title}
// Made by mbn-deploy §{version}; do not edit. C++: registers exactly the model's operators.
#ifndef §{macro}_RESOLVER_H_
#define §{macro}_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using §{name}_resolver = tflite::MicroMutableOpResolver<§{operator_count}>;

inline TfLiteStatus §{name}_register(§{name}_resolver& resolver) {
§{operators}
  return kTfLiteOk;
}

#endif  // §{macro}_RESOLVER_H_
