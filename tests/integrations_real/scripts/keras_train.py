"""Trains a tiny Keras model, or two: CASE RUN_ID. Prints what Keras itself says of each epoch."""

import json
import sys

import numpy as np

import runyard
from runyard.integration.keras import RunyardCallback

EPOCHS, BATCHES = 4, 6


def make():
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.layers.Input((5,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), loss="mse", metrics=["mae"])
    return model


def main() -> None:
    import keras

    case, run_id = sys.argv[1:]
    rows = np.random.default_rng(1).normal(size=(BATCHES * 8, 5)).astype("float32")
    target = rows[:, :1]
    told = {}
    run = runyard.init(id=run_id, sync_tensorboard=case == "tensorboard")
    model = make()
    if case == "epochs":
        callback = RunyardCallback(log_model=True)
        fitted = model.fit(
            rows,
            target,
            validation_split=0.25,
            epochs=EPOCHS,
            batch_size=8,
            verbose=0,
            callbacks=[callback],
        )
        told = {
            "history": fitted.history,
            "test": model.evaluate(rows, target, verbose=0, callbacks=[callback], return_dict=True),
        }
        fitted = model.fit(
            rows,
            target,
            initial_epoch=EPOCHS,
            epochs=EPOCHS + 2,
            batch_size=8,
            verbose=0,
            callbacks=[callback],
        )
        told["further"] = fitted.history
    elif case == "batches":
        seen = []

        class Watch(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                seen.append(float(logs["loss"]))

        callbacks = [RunyardCallback(log_freq=2), RunyardCallback(prefix="b/"), Watch()]
        fitted = model.fit(rows, target, epochs=2, batch_size=8, verbose=0, callbacks=callbacks)
        told = {"history": fitted.history, "batches": seen}
    elif case == "fails":

        class Fails(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise RuntimeError("the training fails")

        callbacks = [RunyardCallback(run), Fails()]
        model.fit(rows, target, epochs=EPOCHS, batch_size=8, verbose=0, callbacks=callbacks)
    elif case == "tensorboard":
        callbacks = [keras.callbacks.TensorBoard("logs-keras", update_freq="epoch")]
        fitted = model.fit(
            rows,
            target,
            validation_split=0.25,
            epochs=EPOCHS,
            batch_size=8,
            verbose=0,
            callbacks=callbacks,
        )
        told = {"history": fitted.history}
    print("told", json.dumps({"backend": keras.backend.backend(), **told}), flush=True)


main()
