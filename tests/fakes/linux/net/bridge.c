#include <linux/fake.h>

FEATURE(bridge)
