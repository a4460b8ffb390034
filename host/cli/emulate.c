#include "cli.h"
#include "prefpga/emulation.h"

/* The command's own exit code is the answer; these two follow timeout(1) and the skip of our tests */
enum { EXIT_TIMED_OUT = 124, EXIT_ABSENT = 77 };

static void explain(const struct pf_options *options, const struct pf_emulation_end *end)
{
	if (end->timed_out)
		pf_cli_note(options, "ended after %g seconds (--timeout)", options->emulate_timeout);
	if (end->card_died)
		pf_cli_note(options, "the emulated card died, and XRT ended the command with it; what "
		            "the card said stands above");
}

int pf_verb_emulate(const struct pf_options *options)
{
	struct pf_emulation *emulation;
	struct pf_emulation_end end;
	struct pf_error error = { 0 };
	struct pf_emulation_options wanted = { .image = options->image, .cards = (unsigned)options->emulate_cards };
	char *argv[PF_OPTION_ARGUMENTS_MAX + 1] = { NULL };
	for (int i = 0; i < options->arguments; i++)
		argv[i] = (char *)options->argument[i];
	int status = pf_emulation_open(&wanted, &emulation, &error);
	if (status != 0) {
		pf_cli_fail(options, &error);
		return status == PF_E_ABSENT ? EXIT_ABSENT : PF_EXIT_FAILED;
	}
	status = pf_emulation_run(emulation, argv, pf_option_milliseconds(options->emulate_timeout),
	                          &end, &error);
	pf_emulation_close(emulation);
	if (status != 0)
		return pf_cli_fail(options, &error);
	explain(options, &end);
	return end.timed_out ? EXIT_TIMED_OUT : end.code;
}
