#include <linux/fake.h>

FEATURE(sound)
