#include <linux/fake.h>

FEATURE(serial)
