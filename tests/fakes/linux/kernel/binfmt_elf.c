#include <linux/fake.h>

FEATURE(binfmt_elf)
