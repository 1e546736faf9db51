#include <linux/fake.h>

FEATURE(inet)
