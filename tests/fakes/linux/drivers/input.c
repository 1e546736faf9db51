#include <linux/fake.h>

FEATURE(input)

#ifdef CONFIG_INPUT_LEDS
int led_register(int number);
int input_leds(void);
int input_leds(void) { return led_register(1); }
#endif
