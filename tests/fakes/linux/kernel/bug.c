#include <linux/fake.h>

FEATURE(bug)
