#include <linux/fake.h>

FEATURE(rtc)
