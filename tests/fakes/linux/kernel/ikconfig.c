#include <linux/fake.h>

FEATURE(ikconfig)
