#include <linux/fake.h>

FEATURE(kallsyms)
