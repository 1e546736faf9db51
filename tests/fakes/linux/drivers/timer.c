#include <linux/fake.h>

FEATURE(timer)
