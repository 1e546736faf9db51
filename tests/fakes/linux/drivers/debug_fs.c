#include <linux/fake.h>

FEATURE(debug_fs)
