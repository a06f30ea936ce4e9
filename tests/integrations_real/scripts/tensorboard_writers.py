"""Writes with one of the writers of event files while a run of its own steps follows: WRITER RUN_ID."""

import json
import sys
import time

import runyard

STEPS, OWN_STEPS = 50, 5


def torch_writer(folder):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda tag, value, step: writer.add_scalar(tag, value, step), writer.flush


def torch_writer_new_style(folder):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda tag, value, step: writer.add_scalar(
        tag, value, step, new_style=True
    ), writer.flush


def tensorboardx_writer(folder):
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(folder)
    return lambda tag, value, step: writer.add_scalar(tag, value, step), writer.close


def tensorflow_writer(folder):
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)

    def write(tag, value, step):
        with writer.as_default():
            tf.summary.scalar(tag, value, step=step)

    return write, lambda: None  # never flushed: runyard asks for it


def tensorflow1_writer(folder):
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    writer = tf.compat.v1.summary.FileWriter(folder)

    def write(tag, value, step):
        summary = tf.compat.v1.Summary(
            value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=value)]
        )
        writer.add_summary(summary, step)

    return write, writer.flush


WRITERS = {
    "torch": torch_writer,
    "torch-new": torch_writer_new_style,
    "tensorboardX": tensorboardx_writer,
    "tensorflow": tensorflow_writer,
    "tensorflow1": tensorflow1_writer,
}


def main() -> None:
    kind, run_id = sys.argv[1:]
    run = runyard.init(id=run_id, sync_tensorboard=True)
    write, end = WRITERS[kind]("logs")
    begin = time.time()
    for step in range(STEPS):
        write("train/loss", 1 / (step + 1), step * 10)
        write("acc", step / STEPS, step * 10)
        if step % 10 == 0:
            run.log({"own": step})
    write("odd", float("nan"), 7)
    write("odd", float("inf"), 8)
    write("back", 1.5, 100)
    write("back", 2.5, 3)
    end()
    print("told", json.dumps({"begin": begin, "end": time.time(), "step": run.step}), flush=True)


main()
