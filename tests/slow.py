"""The tests that ``make test`` leaves out, by the beginning of their ids: ``make test-slow`` and ``.ci/run`` run them.

They start processes, train for seconds, compile, or fit boosted trees; each takes five seconds or more. What they check
is checked in smaller ways by the others. ``LONG`` are whole trainings of what recipes, conformance checks and smaller tests
cover: ``make test-all`` runs them, CI does not.
"""

from __future__ import annotations

SLOW = (
    # several processes, and runs that are killed
    "tests/training/test_process_group.py",
    "tests/training/test_launch.py::test_fit_starts_and_ends_worker_processes",
    "tests/training/test_launch.py::test_failing_worker_ends_all_processes",
    "tests/training/test_resume.py::test_command_line_run_resumes_after_kill_and_interrupt",
    "tests/training/test_resume.py::test_interrupted_decoding_keeps_decoded_rows",
    "tests/training/test_interruption.py::test_run_killed_at_random_moments_resumes_bit_identically",
    "tests/training/test_pretraining.py::test_stopped_pretraining_and_fits_resume_bit_identically",
    "tests/training/test_fold_ensemble.py::test_stopped_ensemble_resumes_at_the_interrupted_network",
    "tests/training/test_expert_fitting.py::test_run_stopped_within_final_training_resumes_bit_identically",
    "tests/training/test_expert_fitting.py::test_run_stopped_in_final_fit_resumes_bit_identically",
    "tests/test_plugins.py::test_two_processes_train_and_score_them",
    "tests/test_stopped.py::test_interrupt_ends_all_prediction_processes",
    # whole trainings
    "tests/tasks/test_conversation.py::test_media_inform_the_answers",
    "tests/test_components.py::test_every_option_is_live[tasks/conversation]",
    "tests/test_examples.py::test_example_runs",
    "tests/test_examples.py::test_demo_tells_its_story",
    "tests/test_machine_left_out.py",
    "tests/training/test_expert_fitting.py::test_number_and_label_targets_are_supported",
    "tests/training/test_speed_tuning.py::test_resumed_run_keeps_tuned_settings",
    "tests/training/test_speed_tuning.py::test_tuned_run_equals_run_of_its_recipe",
    "tests/tasks/test_survival.py::test_on_the_command_line",
    "tests/tasks/test_segmentation.py::test_a_new_process_answers_the_same",
    "tests/serve/test_search.py",
    # compiled networks
    "tests/encoders/test_encoders.py::test_grids_and_maps_are_the_same_when_compiled",
    "tests/training/test_compilation.py::test_compiled_training_gives_the_same_model",
    # boosted trees of every kind of response
    "tests/test_components.py::test_keeps_its_promises[experts/boosting]",
    "tests/test_components.py::test_every_option_is_live[experts/boosting]",
    "tests/experts/test_offline.py::test_experts_predict_without_scikit_learn[boosting]",
    # benchmarks, small
    "tests/test_benchmarks.py::test_a_benchmark_runs",
    "tests/test_benchmarks.py::test_the_command_prints_a_table_and_writes_json",
)
LONG = (
    "tests/test_examples.py::test_example_runs[labelling]",
    "tests/tasks/test_series_tasks.py::test_stopped_training_resumes_bit_identically",
    "tests/test_examples.py::test_example_runs[captions]",
    "tests/test_examples.py::test_example_runs[disease_risk]",
    "tests/test_examples.py::test_example_runs[forecast]",
    "tests/test_examples.py::test_example_runs[loan_risk]",
    "tests/test_examples.py::test_example_runs[missing]",
    "tests/test_examples.py::test_example_runs[poses]",
    "tests/test_examples.py::test_example_runs[pretraining]",
    "tests/test_examples.py::test_example_runs[segmentation]",
    "tests/test_examples.py::test_example_runs[smart_home]",
    "tests/test_examples.py::test_example_runs[transcription]",
    "tests/tasks/test_transcription.py",
    "tests/tasks/test_translation.py::test_words_are_mapped_and_their_order_is_reversed",
    "tests/tasks/test_segmentation.py::test_words_steer_the_mask",
    "tests/training/test_pretraining.py::test_on_the_command_line",
    "tests/tasks/test_translation.py::test_chinese_becomes_english",
    "tests/encoders/test_encoders.py::test_grids_and_maps_are_the_same_when_compiled[resnet]",
    "tests/encoders/test_encoders.py::test_grids_and_maps_are_the_same_when_compiled[vit]",
)
