§{title}
// Made by mbn-deploy §{version}; do not edit. UTF-8; the names of the answers, in their order.
#ifndef §{macro}_LABELS_H_
#define §{macro}_LABELS_H_

#include "§{name}.h"

static const char* const §{name}_labels[§{names}] = {
§{labels}
};

#endif  // §{macro}_LABELS_H_
