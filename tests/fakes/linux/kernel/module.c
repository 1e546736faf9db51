#include <linux/fake.h>

FEATURE(module)
