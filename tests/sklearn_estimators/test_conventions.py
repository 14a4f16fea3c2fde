"""scikit-learn's own checks, and what it does with estimators."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from pcircuits.errors import FileFormatError
from pcircuits.sklearn import CircuitClassifier, CircuitDensity, CircuitImputer

ESTIMATORS = [CircuitDensity(epochs=3), CircuitImputer(epochs=3), CircuitClassifier(epochs=3)]
ENVIRONMENT = "check_array_api_input"  # is about a switch of SciPy's


def checks():
    for estimator in ESTIMATORS:
        for instance, check in estimator_checks_generator(estimator):
            name = check.func.__name__
            if name != ENVIRONMENT:
                yield pytest.param(instance, check, id=f"{type(estimator).__name__}-{name}")


@pytest.mark.errors  # these checks hand over what no signature allows
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.fixture
def wine():
    x, y = load_wine(return_X_y=True, as_frame=True)
    return x, y


def test_pipelines_searches_and_clones(wine):
    x, y = wine
    holes = x.mask(np.random.default_rng(0).random(x.shape) < 0.2)
    folds = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(CircuitDensity(epochs=5, random_state=0), {"width": [1, 4]}, cv=folds).fit(holes)
    assert search.best_params_ == {"width": 4}
    pipeline = make_pipeline(CircuitImputer(epochs=5, random_state=0), StandardScaler(), CircuitClassifier(epochs=5))
    assert pipeline.fit(holes, y).score(holes, y) > 0.9
    twin = clone(CircuitImputer(strategy="median", width=3))
    assert twin.get_params()["strategy"] == "median"


def test_outputs_are_frames_where_they_are_asked_for(wine):
    x, _ = wine
    holes = x.mask(np.random.default_rng(0).random(x.shape) < 0.2)
    imputer = CircuitImputer(epochs=5, random_state=0).fit(holes)
    made = imputer.transform(holes)
    assert isinstance(made, pd.DataFrame)
    assert list(made.columns) == list(x.columns) == list(imputer.get_feature_names_out())
    assert made.index.equals(x.index)
    plain = CircuitImputer(epochs=5, random_state=0).fit(holes.to_numpy())
    assert isinstance(plain.transform(holes.to_numpy()), np.ndarray)
    np.testing.assert_allclose(plain.transform(holes.to_numpy()), made.to_numpy(), rtol=1e-9)
    plain.set_output(transform="pandas")
    assert isinstance(plain.transform(holes.to_numpy()), pd.DataFrame)


def test_fitted_estimators_pickle(wine):
    x, y = wine
    for estimator in (CircuitDensity(epochs=3), CircuitClassifier(epochs=3)):
        estimator.fit(x, y)
        again = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(again.score_samples(x), estimator.score_samples(x))


def test_fitted_estimators_are_saved_without_pickle(wine, tmp_path):
    x, y = wine
    for estimator in (
        CircuitDensity(epochs=3),
        CircuitClassifier(epochs=3),
        CircuitImputer(epochs=3, strategy="median"),
    ):
        estimator.fit(x, y)
        estimator.save(tmp_path / "e.zip")
        again = type(estimator).load(tmp_path / "e.zip")
        assert again.get_params() == estimator.get_params()
        holes = x.mask(np.random.default_rng(0).random(x.shape) < 0.2)
        if isinstance(estimator, CircuitImputer):
            np.testing.assert_array_equal(again.transform(holes), estimator.transform(holes))
            continue
        np.testing.assert_array_equal(again.score_samples(holes), estimator.score_samples(holes))
        if isinstance(estimator, CircuitClassifier):
            np.testing.assert_array_equal(again.predict(holes), estimator.predict(holes))


@pytest.mark.errors
def test_other_files_are_refused(wine, tmp_path):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(FileFormatError, match="is no file that an estimator was saved to"):
        CircuitDensity.load(tmp_path / "text")
    CircuitDensity(epochs=1).fit(wine[0]).save(tmp_path / "density")
    with pytest.raises(FileFormatError, match="holds a CircuitDensity, not a CircuitImputer"):
        CircuitImputer.load(tmp_path / "density")


def test_the_same_seed_learns_the_same(wine):
    x, _ = wine
    one, other = (CircuitDensity(epochs=3, random_state=7).fit(x).score_samples(x) for _ in range(2))
    np.testing.assert_array_equal(one, other)
