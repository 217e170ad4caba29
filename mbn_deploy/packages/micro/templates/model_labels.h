§{title}
// Made by mbn-deploy §{version}; do not edit. UTF-8; element i is the name of class i.
#ifndef §{macro}_LABELS_H_
#define §{macro}_LABELS_H_

#include "§{name}.h"

static const char* const §{name}_labels[§{macro}_CLASSES] = {
§{labels}
};

#endif  // §{macro}_LABELS_H_
