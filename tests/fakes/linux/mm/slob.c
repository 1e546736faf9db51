#include <linux/fake.h>

FEATURE(slob)
