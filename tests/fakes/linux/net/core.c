#include <linux/fake.h>

FEATURE(net)
