#include <linux/fake.h>

FEATURE(slab)
