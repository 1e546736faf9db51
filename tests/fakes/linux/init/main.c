#include <linux/fake.h>

int __init start_kernel(void);
int __init start_kernel(void) { return 0; }

int schedule(int task);
int schedule(int task) { return task + 1; }
