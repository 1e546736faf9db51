#include <linux/fake.h>

FEATURE(crc32)
