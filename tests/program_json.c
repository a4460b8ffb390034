#include "tests/program_json.h"
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

json_t *program_json(const char *arguments)
{
	char words[4096];
	json_error_t why;
	snprintf(words, sizeof words, "%s --format json%s%s%s 2>/dev/null", arguments,
	         strstr(arguments, "--sysfs-root") ? "" : " --sysfs-root '",
	         strstr(arguments, "--sysfs-root") ? "" : scratch_path("root"),
	         strstr(arguments, "--sysfs-root") ? "" : "'");
	if (program_run(words) != 0)
		fail_msg("%s", words);
	json_t *json = json_loads(program_output, 0, &why);
	if (!json)
		fail_msg("%s: %s", words, why.text);
	return json;
}

double program_number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	assert_true(json_is_number(value));
	return json_number_value(value);
}
