/* What the fake kernel's sources share. */
#define __init __attribute__((section(".init.text")))

/* A function that runs at boot and one that runs when somebody uses the feature. */
#define FEATURE(name)                                                                              \
	int name##_state;                                                                          \
	int __init name##_init(void);                                                              \
	int __init name##_init(void) { return name##_state = 1; }                                  \
	int name##_use(int);                                                                       \
	int name##_use(int times) { return name##_state += times; }
