#include <linux/fake.h>

FEATURE(swap)
