#include <linux/fake.h>

FEATURE(slub)
