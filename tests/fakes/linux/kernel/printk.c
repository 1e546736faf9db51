#include <linux/fake.h>

FEATURE(printk)

char log_buffer[1 << CONFIG_LOG_BUF_SHIFT];
