"""Trains a few trees with XGBoost or LightGBM: LIBRARY CASE[:RUN_ID] ... Prints what the library itself says of each round."""

import json
import sys

import numpy as np

import runyard

FEATURES, ROUNDS = 4, 8


def data():
    generator = np.random.default_rng(7)
    rows = generator.normal(size=(200, FEATURES))
    return rows, (rows[:, 0] + 0.1 * generator.normal(size=200) > 0).astype(float)


class Stop(Exception):
    pass


def fail_at(round_number):
    if round_number == 3:
        raise Stop("the training fails")


def xgboost_case(case, run):
    import xgboost

    from runyard.integration.xgboost import RunyardCallback

    rows, labels = data()
    train, valid = (
        xgboost.DMatrix(rows[:150], labels[:150]),
        xgboost.DMatrix(rows[150:], labels[150:]),
    )
    parameters = {
        "objective": "binary:logistic",
        "eval_metric": ["logloss", "error"],
        "max_depth": 2,
        "eta": 0.3,
        "nthread": 1,
    }
    told = {}
    sets = [(train, "train"), (valid, "valid")]
    if case == "cv":
        frame = xgboost.cv(
            parameters,
            train,
            ROUNDS,
            nfold=3,
            seed=1,
            as_pandas=False,
            callbacks=[RunyardCallback(prefix="cv/")],
        )
        return frame
    callbacks = [RunyardCallback(run)]
    if case == "twice":
        callbacks.append(RunyardCallback(prefix="b/"))
    if case == "estimator":
        model = xgboost.XGBClassifier(
            n_estimators=ROUNDS, max_depth=2, eval_metric="logloss", n_jobs=1, callbacks=callbacks
        )
        model.fit(rows[:150], labels[:150], eval_set=[(rows[150:], labels[150:])], verbose=False)
        return model.evals_result()
    if case == "fails":

        class Fails(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                fail_at(epoch)
                return False

        callbacks.append(Fails())
    rounds = 60 if case == "early" else ROUNDS
    early = 3 if case == "early" else None
    xgboost.train(
        parameters,
        train,
        rounds,
        evals=sets,
        evals_result=told,
        verbose_eval=False,
        early_stopping_rounds=early,
        callbacks=callbacks,
    )
    return told


def lightgbm_case(case, run):
    import lightgbm

    from runyard.integration.lightgbm import RunyardCallback, log_summary

    rows, labels = data()
    train = lightgbm.Dataset(rows[:150], labels[:150])
    valid = lightgbm.Dataset(rows[150:], labels[150:], reference=train)
    parameters = {
        "objective": "binary",
        "metric": ["binary_logloss", "auc"],
        "num_leaves": 4,
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
    }
    told = {}
    if case == "cv":
        return lightgbm.cv(
            parameters, train, ROUNDS, nfold=3, seed=1, callbacks=[RunyardCallback(prefix="cv/")]
        )
    callbacks = [lightgbm.record_evaluation(told), RunyardCallback(run)]
    if case == "twice":
        callbacks.append(RunyardCallback(prefix="b/"))
    if case == "early":
        callbacks.append(lightgbm.early_stopping(3, verbose=False))
    if case == "fails":
        callbacks.append(lambda env: fail_at(env.iteration))
        callbacks[-1].order = 40
    if case == "estimator":
        model = lightgbm.LGBMClassifier(n_estimators=ROUNDS, num_leaves=4, verbosity=-1, n_jobs=1)
        model.fit(
            rows[:150], labels[:150], eval_set=[(rows[150:], labels[150:])], callbacks=callbacks
        )
    else:
        rounds = 60 if case == "early" else ROUNDS
        model = lightgbm.train(
            parameters,
            train,
            rounds,
            valid_sets=[train, valid],
            valid_names=["train", "valid"],
            callbacks=callbacks,
        )
    log_summary(model)
    return told


def main() -> None:
    library, *cases = sys.argv[1:]
    told = {}
    for case in cases:
        name, _, run_id = case.partition(":")
        with runyard.init(id=f"{library}-{run_id or name}", config={"given": 1}) as run:
            if name == "twice":
                run.log({"own": 1.0})
            made = {"xgboost": xgboost_case, "lightgbm": lightgbm_case}[library](name, run)
        told[case] = {k: list(v) if not isinstance(v, dict) else v for k, v in made.items()}
    print("told", json.dumps(told), flush=True)


main()
