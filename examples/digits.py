"""Trains a small neural network on scikit-learn's handwritten digits, then tries it on worse and worse images: two runs.

    python examples/digits.py [--epochs 100] [--project digits]

Takes under a minute on a laptop. The first run leaves its weights as an artifact, which the second one uses. Everything about
runyard is in the lines that say `run`; the rest is an ordinary training script.
"""

from __future__ import annotations

import argparse
import sys
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import runyard

CLASSES = range(10)
PIXELS = 8
MEDIA_EPOCHS = 10
"""Epochs from one set of images and histograms to the next."""
MISREAD_COUNT_MAX = 16
TABLE_ROWS = 100
MODEL = "digits-model"
NOISE_LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Standard deviations of the noise on test images, whose pixels are 0 to 1."""
NOISY_SHOWN = 8
INTERRUPTED_EXIT_CODE = 130
SHIFTS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Trains on the digits data set and records the run."
    )
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 128])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.2)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--entity", default=None)
    parser.add_argument("--project", default="digits")
    arguments = parser.parse_args()

    train, test = load(arguments.seed)
    hyperparameters = {k: v for k, v in vars(arguments).items() if k not in ("entity", "project")}
    with runyard.init(
        entity=arguments.entity,
        project=arguments.project,
        config={**hyperparameters, "train_images": len(train[0]), "test_images": len(test[0])},
        tags=["example"],
    ) as run:
        run.define_metric("test/accuracy", summary="max", goal="maximize")
        run.define_metric("test/loss", summary="min", goal="minimize")
        # Matrices this small are multiplied fastest by one thread; more only wait for each other.
        with threadpool_limits(1):
            model = fit(run, train, test, arguments)
        log_weights(run, model)
    if not run.offline:  # what another run logged can be used once the server has it
        evaluate(test, arguments)


Images = tuple[NDArray[np.float64], NDArray[np.int64]]


def load(seed: int) -> tuple[Images, Images]:
    """Returns (pixels, labels) to train on, each image moved by a pixel in every direction too, and to test on."""
    pixels, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        pixels / 16.0, labels, test_size=0.25, random_state=seed, stratify=labels
    )
    squares = x_train.reshape(-1, PIXELS, PIXELS)
    moved = [np.roll(squares, shift, axis=(1, 2)).reshape(-1, PIXELS**2) for shift in SHIFTS]
    return (np.concatenate(moved), np.tile(y_train, len(SHIFTS))), (x_test, y_test)


def fit(
    run: runyard.Run, train: Images, test: Images, arguments: argparse.Namespace
) -> MLPClassifier:
    """Returns the model after training it epoch by epoch, each of which logs what it cost and what it brought."""
    decay_power = 0.25
    model = MLPClassifier(
        hidden_layer_sizes=tuple(arguments.hidden),
        solver="sgd",
        batch_size=arguments.batch_size,
        learning_rate="invscaling",
        learning_rate_init=arguments.learning_rate,
        power_t=decay_power,
        alpha=arguments.weight_decay,
        random_state=arguments.seed,
    )
    for epoch in range(arguments.epochs):
        # The rate falls with the number of images seen, as scikit-learn's "invscaling" says.
        images_seen = (epoch + 1) * len(train[0])
        learning_rate = arguments.learning_rate / images_seen**decay_power
        train_epoch(model, train)
        chances = model.predict_proba(train[0])
        test_chances = model.predict_proba(test[0])
        guesses = test_chances.argmax(axis=1)
        matrix = confusion_matrix(test[1], guesses, labels=np.array(CLASSES))
        wrong = matrix.sum(axis=1) - matrix.diagonal()
        accuracy = matrix.trace() / matrix.sum()
        print(
            f"epoch {epoch + 1:3} of {arguments.epochs}: {accuracy:.1%} of the test digits are read right"
        )
        if wrong.max() > 0.2 * matrix.sum(axis=1).max():
            print(f"digit {wrong.argmax()} is hard: {wrong.max()} misread", file=sys.stderr)
        if epoch % MEDIA_EPOCHS == 0 or epoch == arguments.epochs - 1:
            log_mistakes(run, test, guesses)
            weights = np.concatenate([layer.ravel() for layer in model.coefs_])
            run.log({"weights": runyard.Histogram(weights)}, commit=False)
        run.log(
            {
                "epoch": epoch,
                "learning_rate": learning_rate,
                "train/loss": log_loss(train[1], chances),
                "train/accuracy": np.mean(chances.argmax(axis=1) == train[1]),
                "test/loss": log_loss(test[1], test_chances),
                "test/accuracy": accuracy,
                **{f"wrong/digit_{digit}": wrong[digit] for digit in CLASSES},
            }
        )
    log_predictions(run, test, guesses, test_chances)
    return model


def train_epoch(model: MLPClassifier, train: Images) -> None:
    """Trains once over all images. scikit-learn takes Ctrl-C for the end of the epoch and warns; here it ends the run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training interrupted by user", UserWarning)
        try:
            model.partial_fit(*train, classes=np.array(CLASSES))
        except UserWarning:
            raise KeyboardInterrupt from None


def log_mistakes(run: runyard.Run, test: Images, guesses: NDArray[np.int64]) -> None:
    """Shows the digits that are misread, at the run's last step."""
    misread = np.flatnonzero(guesses != test[1])[:MISREAD_COUNT_MAX]
    pictures = [
        runyard.Image(
            test[0][i].reshape(PIXELS, PIXELS), caption=f"{test[1][i]} read as {guesses[i]}"
        )
        for i in misread
    ]
    run.log({"misread": pictures} if pictures else {}, commit=False)


def log_predictions(
    run: runyard.Run, test: Images, guesses: NDArray[np.int64], chances: NDArray[np.float64]
) -> None:
    """Keeps what was read for what: a confusion matrix, and a table of the digits that are least certain."""
    mistakes = confusion_matrix(test[1], guesses, labels=np.array(CLASSES))
    mistakes -= np.diag(mistakes.diagonal())
    truth, guess = np.unravel_index(mistakes.argmax(), mistakes.shape)
    run.summary["mistakes"] = int(mistakes.sum())
    run.summary["worst_mistake"] = f"{truth} read as {guess}, {mistakes.max()} times"
    table = runyard.Table(columns=["image", "truth", "read_as", "chance", "right"])
    certainty = chances.max(axis=1)
    for i in certainty.argsort()[:TABLE_ROWS]:
        image = runyard.Image(test[0][i].reshape(PIXELS, PIXELS))
        table.add_data(image, test[1][i], guesses[i], certainty[i], test[1][i] == guesses[i])
    confusion = runyard.plot.confusion_matrix(
        y_true=test[1], preds=guesses, class_names=list(CLASSES), title="What is read as what"
    )
    run.log({"confusion": confusion, "predictions": table})


def log_weights(run: runyard.Run, model: MLPClassifier) -> None:
    """Keeps the weights as the next version of an artifact, unless they are those of the last one."""
    artifact = runyard.Artifact(MODEL, type="model", description="Layers of a digit reader")
    with artifact.new_file("weights.npz", mode="wb") as file:
        np.savez(
            file,
            *(
                array
                for layer in zip(model.coefs_, model.intercepts_, strict=True)
                for array in layer
            ),
        )
    run.log_artifact(artifact)


def evaluate(test: Images, arguments: argparse.Namespace) -> None:
    """Tries the newest weights on noisy images, as a run of its own."""
    with runyard.init(
        entity=arguments.entity,
        project=arguments.project,
        job_type="evaluation",
        config={"images": len(test[0]), "noise_levels": list(NOISE_LEVELS), "seed": arguments.seed},
        tags=["example"],
    ) as run:
        artifact = run.use_artifact(f"{MODEL}:latest", type="model")
        with np.load(f"{artifact.download()}/weights.npz") as arrays:
            layers = [arrays[name] for name in arrays.files]
        run.config["model"] = artifact.name
        random = np.random.default_rng(arguments.seed)
        rows = []
        for level in NOISE_LEVELS:
            pixels = np.clip(test[0] + random.normal(0.0, level, test[0].shape), 0.0, 1.0)
            guesses = read_digits(layers, pixels)
            accuracy = float(np.mean(guesses == test[1]))
            rows.append([level, accuracy])
            pictures = [
                runyard.Image(pixels[i].reshape(PIXELS, PIXELS), caption=f"read as {guesses[i]}")
                for i in range(NOISY_SHOWN)
            ]
            run.log({"noise": level, "accuracy": accuracy, "noisy": pictures})
        table = runyard.Table(columns=["noise", "accuracy"], data=rows)
        title = "How many digits are read right"
        run.log({"robustness": runyard.plot.line(table, "noise", "accuracy", title=title)})


def read_digits(
    layers: list[NDArray[np.float64]], pixels: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Returns what a network of these weights and biases, in turn, reads."""
    signal = pixels
    for position in range(0, len(layers), 2):
        signal = signal @ layers[position] + layers[position + 1]
        if position + 2 < len(layers):
            signal = np.maximum(signal, 0.0)
    return signal.argmax(axis=1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # leaving `with` has recorded the run as killed
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT_CODE)
