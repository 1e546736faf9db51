#include <linux/fake.h>

FEATURE(fat)
