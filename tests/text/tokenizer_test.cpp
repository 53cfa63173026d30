#include "moekit/text/tokenizer.h"
