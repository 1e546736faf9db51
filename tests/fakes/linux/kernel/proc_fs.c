#include <linux/fake.h>

FEATURE(proc_fs)
