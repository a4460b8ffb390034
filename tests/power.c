/* Sensors of machines made up here: trees as XRT's, AMI's and the kernel's drivers lay them out, good and bad. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include "driver/power.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

#define PCI "root/sys/bus/pci/devices/"
#define RAPL "root/sys/class/powercap/"

static int begin(void **state)
{
	(void)state;
	scratch_open("power");
	return 0;
}

/* A U250 with both functions, a VCK5000-like board behind hwmon_sdm, a V80 under ami */
static void make_cards(void)
{
	scratch_tree(PCI "0000:3b:00.0/vendor", "0x10ee\n");
	scratch_tree(PCI "0000:3b:00.0/xmc.m.4/xmc_power", "28104250\n");
	scratch_tree(PCI "0000:3b:00.0/xmc.m.4/cache_expire_secs", "2\n");
	scratch_tree(PCI "0000:3b:00.1/vendor", "0x10ee\n");
	scratch_tree(PCI "0000:3b:00.1/xmc.u.7/xmc_power", "99000000\n");
	scratch_tree(PCI "0000:3b:00.1/hwmon/hwmon3/power1_input", "98000000\n");
	scratch_tree(PCI "0000:5e:00.1/vendor", "0x10ee\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/name", "xilinx_vck5000_hwmon_sdm_user\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/power1_input", "7\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/power1_label", "vccint\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/power2_input", "41250\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/power2_label", "Total Power\n");
	scratch_tree(PCI "0000:5e:00.1/hwmon/hwmon4/power2_unitm", "-3\n");
	scratch_tree(PCI "0000:a1:00.0/vendor", "0x10ee\n");
	scratch_tree(PCI "0000:a1:00.0/hwmon/hwmon5/name", "Alveo\n");
	scratch_tree(PCI "0000:a1:00.0/hwmon/hwmon5/update_interval", "250\n");
	scratch_tree(PCI "0000:a1:00.0/hwmon/hwmon5/power1_input", "63000000\n");
	scratch_tree(PCI "0000:a1:00.0/hwmon/hwmon5/power1_label", "Total_Power\n");
	scratch_tree(PCI "0000:02:00.0/vendor", "0x8086\n");
	scratch_tree(PCI "0000:02:00.0/hwmon/hwmon1/power1_input", "5000000\n");
}

static void make_rapl(void)
{
	scratch_tree(RAPL "intel-rapl:0/name", "package-0\n");
	scratch_tree(RAPL "intel-rapl:0/energy_uj", "262143000000\n");
	scratch_tree(RAPL "intel-rapl:0/max_energy_range_uj", "262143328850\n");
	scratch_tree(RAPL "intel-rapl:0:0/name", "core\n");
	scratch_tree(RAPL "intel-rapl:0:0/energy_uj", "1\n");
	scratch_tree(RAPL "intel-rapl:0:0/max_energy_range_uj", "262143328850\n");
	scratch_tree(RAPL "intel-rapl:0:1/name", "dram\n");
	scratch_tree(RAPL "intel-rapl:0:1/energy_uj", "12500000\n");
	scratch_tree(RAPL "intel-rapl:0:1/max_energy_range_uj", "65712999613\n");
	scratch_tree(RAPL "intel-rapl/enabled", "1\n");
}

static size_t find(struct pf_sensor **sensors, struct pf_error *refused)
{
	const struct pf_sensor_options options = { .root = scratch_path("root") };
	size_t count = 99;
	assert_int_equal(pf_sensors_find(&options, sensors, &count, refused), 0);
	return count;
}

static void check(const struct pf_sensor *s, const char *name, enum pf_power_scope scope, double refresh, double value)
{
	struct pf_error error;
	double read;
	assert_string_equal(s->name, name);
	assert_int_equal(s->scope, scope);
	assert_true(fabs(s->refresh_s - refresh) <= 1e-12);
	assert_int_equal(pf_sensor_read(s, &read, &error), 0);
	if (!(fabs(read - value) <= 1e-9 * value))
		fail_msg("%s: %.12g, not %.12g", name, read, value);
}

static void cards_once_each_with_their_units(void **state)
{
	struct pf_sensor *s;
	struct pf_error refused;
	(void)state;
	make_cards();
	assert_int_equal(find(&s, &refused), 3);
	check(&s[0], "xmc 0000:3b:00.0", PF_POWER_BOARD, 2.0, 28.10425);
	check(&s[1], "hwmon 0000:5e:00.1", PF_POWER_BOARD, 1.0, 41.25);
	check(&s[2], "hwmon 0000:a1:00.0", PF_POWER_BOARD, 0.25, 63.0);
	assert_int_equal(refused.code, 0);
	free(s);
}

static void processors_without_the_parts_of_a_package(void **state)
{
	struct pf_sensor *s;
	(void)state;
	make_rapl();
	assert_int_equal(find(&s, NULL), 2);
	check(&s[0], "rapl package-0", PF_POWER_PACKAGE, 1e-3, 262143.0);
	assert_true(s[0].counts && s[0].range == 262143328850.0 * 1e-6);
	check(&s[1], "rapl dram of package 0", PF_POWER_DRAM, 1e-3, 12.5);
	free(s);
}

static void an_average_that_is_a_maximum_is_refused(void **state)
{
	struct pf_sensor *s;
	struct pf_error refused;
	(void)state;
	scratch_tree(PCI "0000:3b:00.1/vendor", "0x10ee\n");
	scratch_tree(PCI "0000:3b:00.1/hwmon/hwmon3/power1_average", "98000000\n");
	assert_int_equal(find(&s, &refused), 0);
	assert_non_null(strstr(refused.text, "power1_average"));
	free(s);
}

static void what_cannot_be_read_says_why(void **state)
{
	struct pf_sensor *s;
	struct pf_error refused;
	(void)state;
	if (geteuid() != 0) {                  /* root reads everything */
		make_rapl();
		assert_int_equal(chmod(scratch_path(RAPL "intel-rapl:0/energy_uj"), 0), 0);
		assert_int_equal(find(&s, &refused), 1);
		assert_non_null(strstr(refused.text, "chmod"));
		free(s);
	}
	scratch_open("power");
	scratch_tree(RAPL "intel-rapl:0/name", "package-0\n");
	scratch_tree(RAPL "intel-rapl:0/energy_uj", "12\n");
	assert_int_equal(find(&s, &refused), 0);
	assert_non_null(strstr(refused.text, "wrap"));
	free(s);
}

static void hostile_values_are_no_power(void **state)
{
	static const char *const bad[] = { "",      "\n",     "-3\n",    "nan\n",
		                           "inf\n", "12x\n",  "1e400\n", "99999999999999999\n",
		                           " 7\n",  "0x10\n", "7 8\n", "0\n" };
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pf_sensor *s;
		struct pf_error refused;
		scratch_open("power");
		scratch_tree(PCI "0000:3b:00.0/vendor", "0x10ee\n");
		scratch_tree(PCI "0000:3b:00.0/xmc.m.4/xmc_power", bad[i]);
		const size_t count = find(&s, &refused);
		const int hex = strcmp(bad[i], "0x10\n") == 0;         /* strtod reads it: 16 microwatts */
		assert_int_equal(count, hex ? 1 : 0);
		assert_true(hex || strstr(refused.text, "xmc_power"));
		free(s);
	}
}

static void no_machine_no_sensor(void **state)
{
	struct pf_sensor *s;
	(void)state;
	assert_int_equal(find(&s, NULL), 0);
	free(s);
}

static const char report[] =
	"{\"devices\": [{\"device_id\": \"0000:3b:00.1\", \"electrical\": {\"power_consumption_watts\": \"25.104\"}},\n"
	"              {\"device_id\": \"0000:5e:00.1\", \"electrical\": {\"power_consumption_watts\": \"N/A\"}}]}\n";

static void reports_of_the_vendors_tool(void **state)
{
	struct pf_error error;
	double watts;
	(void)state;
	assert_int_equal(pf_power_report(report, "0000:3b:00.1", &watts, &error), 0);
	assert_true(fabs(watts - 25.104) <= 1e-12);
	assert_int_equal(pf_power_report(report, "0000:5e:00.1", &watts, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "N/A"));
	assert_int_equal(pf_power_report(report, "", &watts, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "2 devices"));
	assert_int_equal(pf_power_report("{\n\"devices\": [}", "", &watts, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "line 2"));
}

static void metrics_of_aws(void **state)
{
	static const char text[] = "Power consumption (Vccint):\n   Last measured: 17 watts\n   Average: 18 watts\n";
	struct pf_error error;
	double watts;
	(void)state;
	assert_int_equal(pf_power_aws(text, &watts, &error), 0);
	assert_true(watts == 17.0);
	assert_int_equal(pf_power_aws(text + 5, &watts, &error), PF_E_FORMAT);
	assert_int_equal(pf_power_aws("Power consumption (Vccint):\nLast measured: x watts", &watts, &error),
	                 PF_E_FORMAT);
	assert_int_equal(pf_power_aws("Power consumption (Vccint):\nLast measured: 3 amperes", &watts, &error),
	                 PF_E_FORMAT);
}

static void an_old_report_is_stale(void **state)
{
	struct pf_sensor *s;
	struct pf_error error;
	size_t count;
	double watts;
	(void)state;
	const struct pf_sensor_options options = { .root = scratch_path("root"),
		.aws = scratch_text("aws", "Power consumption (Vccint):\n   Last measured: 17 watts\n") };
	assert_int_equal(pf_sensors_find(&options, &s, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(s->scope, PF_POWER_CHIP);
	const struct utimbuf old = { 1000000000, 1000000000 };
	assert_int_equal(utime(s->path, &old), 0);
	assert_int_equal(pf_sensor_read(s, &watts, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "last written"));
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(cards_once_each_with_their_units, begin),
		cmocka_unit_test_setup(processors_without_the_parts_of_a_package, begin),
		cmocka_unit_test_setup(an_average_that_is_a_maximum_is_refused, begin),
		cmocka_unit_test_setup(what_cannot_be_read_says_why, begin),
		cmocka_unit_test_setup(hostile_values_are_no_power, begin),
		cmocka_unit_test_setup(no_machine_no_sensor, begin),
		cmocka_unit_test_setup(reports_of_the_vendors_tool, begin),
		cmocka_unit_test_setup(metrics_of_aws, begin),
		cmocka_unit_test_setup(an_old_report_is_stale, begin),
	};
	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
