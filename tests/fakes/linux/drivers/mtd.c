#include <linux/fake.h>

FEATURE(mtd)
