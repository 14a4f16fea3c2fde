"""Every kind of bad input, and where its error is tested; what is in this folder is what no other folder has."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

INDEX = {
    "wrong number of variables or shape": [
        "evidence/test_evidence.py::test_refused",
        "bad_input/test_bad_evidence.py::test_a_refused_row_changes_nothing",
        "vq_models/test_model_errors.py::test_images_and_codes_that_do_not_fit_are_errors",
        "bad_input/test_bad_images.py::test_metrics_check_their_images",
    ],
    "a value outside of the states, or not an integer": [
        "evidence/test_evidence.py::test_refused",
        "bad_input/test_bad_evidence.py::test_a_refused_row_changes_nothing",
        "vq_priors/test_prior_laws.py::test_codes_and_prefixes_are_checked",
    ],
    "NaN where the mask says observed": ["evidence/test_evidence.py::test_refused"],
    "infinities": ["evidence/test_evidence.py::test_refused", "queries/test_query_errors.py::test_bounds"],
    "evidence of probability zero given to a conditional": [
        "queries/test_query_errors.py::test_rows_of_probability_zero_are_named_at_once",
        "bad_input/test_bad_evidence.py::test_nothing_follows_from_what_cannot_be",
    ],
    "evidence contradicted": [
        "evidence/test_evidence.py::test_a_contradiction_is_named",
        "queries/test_query_errors.py::test_contradictions",
    ],
    "evidence that is complex, sparse, ragged, text, dates or objects": [
        "evidence/test_evidence.py::test_refused",
        "evidence/test_frames.py::test_refused",
    ],
    "counts that the model's dtype would round": [
        "evidence/test_forms.py::test_counts_that_float32_does_not_hold_are_refused_there"
    ],
    "columns of a frame that are no variables": ["evidence/test_frames.py::test_refused"],
    "evidence under torch.jit.trace": ["evidence/test_graphs.py::test_tracing_is_refused"],
    "dict evidence of unequal lengths": ["evidence/test_evidence.py::test_refused"],
    "family parameters outside of their constraints": [
        "circuit/test_bad_units.py::test_parameters_of_leaves",
        "bad_input/test_bad_parameters.py::test_every_family_names_what_is_outside",
    ],
    "weights negative, NaN, or not summing to one": [
        "circuit/test_bad_units.py::test_weights",
        "bad_input/test_bad_parameters.py::test_weights_of_a_mixture",
    ],
    "parameters with a graph, or of no real numbers": [
        "bad_input/test_bad_parameters.py::test_tensors_with_a_graph_are_not_cut_off_in_silence",
        "bad_input/test_bad_parameters.py::test_what_is_no_number",
    ],
    "logarithms that make no weights": ["circuit/test_log_parameters.py::test_refused"],
    "a seed for a generator, a float for a whole number": [
        "bad_input/test_bad_arguments.py::test_a_seed_is_not_a_generator",
        "bad_input/test_bad_arguments.py::test_what_is_no_whole_number",
    ],
    "overlapping or differing scopes": [
        "queries/test_query_errors.py::test_compile_names_the_witness",
        "bad_input/test_bad_scopes.py::test_scopes_that_clash_are_named_where_it_is_compiled",
    ],
    "one variable with different numbers of states or base measures": [
        "bad_input/test_bad_scopes.py::test_leaves_of_one_variable_that_do_not_add",
        "circuit/test_states.py::test_an_indicator_outside_of_its_siblings_states_does_not_add_to_them",
    ],
    "unknown or duplicate variables": [
        "circuit/test_bad_units.py::test_variables",
        "evidence/test_evidence.py::test_refused",
        "bad_input/test_bad_scopes.py::test_variables_that_are_not_there",
    ],
    "empty circuits": [
        "circuit/test_bad_units.py::test_variables",
        "bad_input/test_bad_scopes.py::test_circuits_of_nothing",
    ],
    "empty batches": [
        "queries/test_query_errors.py::test_an_empty_batch_gives_empty_answers",
        "vq_priors/test_prior_laws.py::test_an_empty_batch_gives_empty_answers",
        "bad_input/test_bad_images.py::test_no_images_and_no_codes",
    ],
    "N above the number of codes": [
        "vq_selection/test_selections.py::test_more_codes_than_there_are_is_refused",
        "vq_cli/test_commands.py::test_distilling_more_codes_than_there_are_names_their_number",
    ],
    "a class-conditional prior without labels": [
        "vq_priors/test_prior_laws.py::test_labels_are_asked_for_and_checked",
        "bad_input/test_bad_images.py::test_a_conditional_prior_is_trained_with_labels",
    ],
    "a checkpoint of another architecture": [
        "learning/test_resume.py::test_checkpoints_of_other_runs_are_refused_with_the_difference",
        "vq_models/test_model_files.py::test_other_architectures_are_refused_and_can_be_registered",
    ],
    "missing or corrupt files": [
        "vq_data/test_load.py::test_files_that_are_missing_or_corrupt_name_the_root_and_the_remedy",
        "io/test_damaged_files.py::test_every_flipped_byte_is_seen",
        "vq_models/test_model_files.py::test_damaged_and_foreign_files_are_refused",
    ],
    "an unwritable folder": [
        "files/test_whole_files.py::test_a_folder_that_nobody_can_write",
        "bad_input/test_bad_places.py::test_results_that_cannot_be_written",
        "bad_input/test_bad_places.py::test_a_command_that_cannot_write",
    ],
    "a device that is not there": [
        "bad_input/test_bad_places.py::test_devices_that_are_not_there",
        "vq_cli/test_commands.py::test_a_users_error_is_one_line_and_no_traceback",
    ],
    "Ctrl-C": [
        "bad_input/test_interrupted_command.py::test_ctrl_c_and_again",
        "learning/test_resume.py::test_ctrl_c_leaves_the_last_checkpoint_whole_and_propagates",
        "io/test_round_trip.py::test_an_interrupt_while_saving_leaves_nothing",
    ],
    "a missing extra": ["bad_input/test_missing_extras.py::test_the_extra_is_named"],
}


@pytest.mark.parametrize("line", INDEX)
def test_every_line_has_its_tests(line: str) -> None:
    for place in INDEX[line]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, place
