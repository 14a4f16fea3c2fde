"""Tables of mixed columns with holes: densities, imputations, classes and errors that are right, in the user's words."""

import numpy as np
import pandas as pd
import pytest
import torch

from pcircuits.sklearn import CircuitClassifier, CircuitDensity, CircuitImputer


def trip(rows=600, seed=0):
    """City decides everything: temperature, visits, membership; spending is of the size of 1e9."""
    generator = np.random.default_rng(seed)
    city = generator.choice(["Oslo", "Paris", "Rome"], rows, p=[0.2, 0.5, 0.3])
    return pd.DataFrame(
        {
            "city": city,
            "temp": np.where(city == "Oslo", 2.0, 20.0) + generator.normal(0, 2, rows),
            "visits": generator.poisson(np.where(city == "Rome", 20, 3)),
            "member": generator.random(rows) < np.where(city == "Paris", 0.95, 0.05),
            "spend": 1e9 * np.exp(generator.normal(0, 0.3, rows)),
        }
    )


def with_holes(table, share=0.2, seed=1):
    return table.mask(np.random.default_rng(seed).random(table.shape) < share)


@pytest.fixture(scope="module")
def table():
    return trip()


@pytest.fixture(scope="module")
def density(table):
    return CircuitDensity(random_state=0, column_types={"visits": "counts"}).fit(with_holes(table))


class TestDensity:
    def test_kinds_are_found_and_overridden(self, table):
        fitted = CircuitDensity(epochs=1).fit(table)
        kinds = {column.name: column.kind for column in fitted.columns_}
        assert kinds == {
            "city": "categories",
            "temp": "continuous",
            "visits": "counts",
            "member": "booleans",
            "spend": "continuous",
        }
        other = CircuitDensity(epochs=1, column_types={"visits": "continuous", "member": "categories"}).fit(table)
        assert {c.name: c.kind for c in other.columns_}["visits"] == "continuous"
        nullable = table.assign(visits=table["visits"].astype("Int64").mask(table["temp"] > 20))
        assert CircuitDensity(epochs=1).fit(nullable).columns_[2].kind == "counts"
        assert (
            CircuitDensity(epochs=1).fit(table["city"].astype("category").to_frame()).columns_[0].kind == "categories"
        )

    def test_densities_integrate_to_one_in_the_users_units(self, density):
        grid = np.linspace(-1e9, 8e9, 20001)
        given = pd.DataFrame({"city": "Rome", "temp": np.nan, "visits": 20, "member": False, "spend": grid})
        alone = given.assign(spend=np.nan)[:1]
        total = np.trapezoid(np.exp(density.score_samples(given) - density.score_samples(alone)), grid)
        assert total == pytest.approx(1, abs=1e-6)

    def test_other_units_shift_densities_by_their_logarithm(self, table):
        numbers = table[["temp", "spend"]]
        for factor in (1e-9, 1e9):
            one = CircuitDensity(random_state=0, epochs=5).fit(numbers)
            other = CircuitDensity(random_state=0, epochs=5).fit(numbers * factor)
            shifted = one.score_samples(numbers) - 2 * np.log(factor)
            np.testing.assert_allclose(other.score_samples(numbers * factor), shifted, rtol=1e-6, atol=1e-6)

    def test_the_model_answers_in_the_users_units_by_name(self, density, table):
        given = density.model_.given({"city": 0})
        mean = dict(zip(density.model_.variables, given.mean()[0].tolist(), strict=True))
        assert mean["temp"] == pytest.approx(2.0, abs=0.7)
        assert mean["spend"] == pytest.approx(table["spend"].mean(), rel=0.1)
        assert density.model_.given(density.encode(table[:3])).mean().shape == (3, 5)
        assert {c.name: c.states for c in density.columns_}["city"] == ("Oslo", "Paris", "Rome")

    def test_missing_cells_are_integrated_out(self, density):
        row = pd.DataFrame(
            {"city": ["Rome"], "temp": [np.nan], "visits": [np.nan], "member": [None], "spend": [np.nan]}
        )
        shares = [np.exp(density.score_samples(row.assign(city=city)))[0] for city in ("Oslo", "Paris", "Rome")]
        assert sum(shares) == pytest.approx(1, abs=1e-9)
        assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.05)

    def test_samples_are_tables_and_keep_what_is_given(self, density, table):
        free = density.sample(200, random_state=0)
        assert list(free.columns) == list(table.columns)
        assert free["member"].dtype == bool
        assert free["visits"].dtype.kind == "i"
        known = density.sample(200, given={"city": "Oslo", "member": True}, random_state=0)
        assert set(known["city"]) == {"Oslo"}
        assert known["member"].all()
        assert known["temp"].mean() == pytest.approx(2.0, abs=1.0)
        again = density.sample(200, given=known[:1][["city", "temp", "visits", "member", "spend"]], random_state=0)
        assert (again["temp"] == known["temp"][0]).all()
        assert free.equals(density.sample(200, random_state=0))

    def test_tables_of_states_say_their_states(self, density):
        row = pd.DataFrame({"city": [None], "temp": [1.0], "visits": [3], "member": [False], "spend": [1e9]})
        states, shares = density.state_probabilities(row)["city"]
        assert states == ["Oslo", "Paris", "Rome"]
        assert shares[0, 0] > 0.9

    def test_strange_rows_have_low_densities(self, density, table):
        strange = table[:20].assign(temp=60.0)
        assert density.score_samples(strange).max() < np.quantile(density.score_samples(table), 0.01)

    def test_a_mixture_is_a_structure_too(self, table):
        mixture = CircuitDensity(structure="mixture", random_state=0, epochs=20).fit(table)
        single = CircuitDensity(structure="mixture", width=1, random_state=0, epochs=20).fit(table)
        assert mixture.score(table) > single.score(table) + 0.5


class TestImputer:
    def test_what_is_there_stays_and_holes_are_filled_by_the_rest(self, table):
        holes = with_holes(table)
        imputer = CircuitImputer(random_state=0).fit(holes)
        made = imputer.transform(holes)
        assert not made.isna().any().any()
        kept = ~holes.isna()
        for name in table:
            assert (made[name][kept[name]] == table[name][kept[name]]).all()
        lost = ~kept
        assert (made["city"] == table["city"])[lost["city"]].mean() > 0.9
        error = (made["temp"] - table["temp"])[lost["temp"]].abs().median()
        assert error < 2.5 < (table["temp"] - table["temp"].mean()).abs().median()

    @pytest.mark.parametrize("strategy", ["mean", "median", "mode", "sample"])
    def test_every_strategy_fills_everything(self, table, strategy):
        holes = with_holes(table)[:150]
        made = CircuitImputer(strategy=strategy, epochs=10, random_state=0).fit_transform(holes)
        assert not made.isna().any().any()
        assert set(made["city"]) <= {"Oslo", "Paris", "Rome"}

    def test_medians_and_means_are_those_of_the_model(self):
        x = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 0.9], [0.0, 0.5]])
        row = np.array([[1.0, np.nan]])
        for strategy in ("mean", "median"):
            imputer = CircuitImputer(strategy=strategy, random_state=0).fit(x)
            given = imputer.model_.given(torch.tensor(row))
            want = given.mean() if strategy == "mean" else given.quantile(0.5)
            np.testing.assert_allclose(imputer.transform(row), want.numpy())

    def test_multiple_imputations_differ_where_there_are_holes(self, table):
        holes = with_holes(table)[:100]
        imputer = CircuitImputer(epochs=10, random_state=0).fit(holes)
        tables = imputer.sample_imputations(holes, 3, random_state=0)
        assert len(tables) == 3
        there = ~holes["temp"].isna()
        assert (tables[0]["temp"][there] == tables[1]["temp"][there]).all()
        assert (tables[0]["temp"][~there] != tables[1]["temp"][~there]).all()


class TestClassifier:
    def test_missing_features_and_names_of_classes(self, table):
        x, y = with_holes(table.drop(columns="city"), 0.3), table["city"]
        classifier = CircuitClassifier(random_state=0).fit(x, y)
        assert list(classifier.classes_) == ["Oslo", "Paris", "Rome"]
        proba = classifier.predict_proba(x)
        np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-12)
        assert classifier.score(x, y) > 0.85
        nothing = x[:1].assign(temp=np.nan, visits=np.nan, member=None, spend=np.nan)
        np.testing.assert_allclose(classifier.predict_proba(nothing)[0], classifier.class_prior_, rtol=1e-9)

    def test_probabilities_are_those_of_the_joint_circuit(self, table):
        x, y = with_holes(table.drop(columns="city"), 0.3)[:200], table["city"][:200]
        classifier = CircuitClassifier(random_state=0, epochs=5).fit(x, y)
        evidence = torch.cat([classifier.encode(x), torch.full((len(x), 1), torch.nan)], 1)
        tables = classifier.model_.given(evidence).state_probabilities()
        np.testing.assert_allclose(tables["class"].numpy(), classifier.predict_proba(x), atol=1e-9)

    def test_rows_that_no_class_can_make_get_the_shares_of_the_classes(self):
        x = pd.DataFrame({"a": ["u", "v", "u", "v"]})
        classifier = CircuitClassifier(pseudocount=0.0, width=1, unseen="state").fit(x, [0, 0, 0, 1])
        proba = classifier.predict_proba(pd.DataFrame({"a": ["w"]}))
        assert np.isfinite(proba).all()

    @pytest.mark.errors
    def test_missing_labels_are_refused(self):
        with pytest.raises(ValueError, match="y contains NaN, in row 1"):
            CircuitClassifier().fit([[0.0], [1.0]], [0.0, np.nan])


class TestOddTables:
    def test_no_variance_one_row_one_category_and_far_outliers(self):
        constant = np.column_stack([np.full(30, 7.0), np.random.default_rng(0).normal(size=30)])
        fitted = CircuitDensity(epochs=5).fit(constant)
        assert np.isfinite(fitted.score_samples(constant)).all()
        assert fitted.model_.mean()[0].item() == pytest.approx(7.0, abs=1e-6)
        zero = CircuitImputer(epochs=5).fit(np.zeros((5, 2))).transform([[np.nan, 0.0]])
        np.testing.assert_allclose(zero, 0.0, atol=1e-6)
        assert np.isfinite(CircuitDensity().fit([[1.0, 2.0]]).score([[1.0, 2.0]]))
        one = CircuitDensity(epochs=2).fit(pd.DataFrame({"a": ["x"] * 5, "b": [1.0, 2.0, 3.0, 4.0, 5.0]}))
        assert np.isfinite(one.score_samples(pd.DataFrame({"a": ["x"], "b": [2.5]}))).all()
        far = np.random.default_rng(0).normal(size=(200, 2))
        far[0, 0], far[1, 1] = 1e9, -1e9
        density = CircuitDensity(random_state=0).fit(far)
        assert np.isfinite(density.score_samples(far)).all()
        rest = np.delete(far, [0, 1], 0)
        assert density.score(rest) > -4.0  # 2.8 nats are the least that two normal columns have
        assert density.sample(50, random_state=0).shape == (50, 2)

    def test_scales_from_tiny_to_huge_in_one_table(self):
        generator = np.random.default_rng(0)
        base = generator.normal(size=(300, 1))
        scales = np.array([1e-9, 1e-3, 1.0, 1e9])
        x = (base + 0.1 * generator.normal(size=(300, 4))) * scales
        made = CircuitImputer(random_state=0).fit(x).transform(np.array([[np.nan, np.nan, 1.5, np.nan]]))
        np.testing.assert_allclose((made / scales)[0], 1.5, atol=0.4)

    def test_any_frame_with_names_will_do(self, table):
        """By what a frame can do: columns, [name], [:n], and being made of a dict."""

        class Frame:
            def __init__(self, columns):
                self.data = dict(columns)
                self.columns = list(self.data)

            def __getitem__(self, key):
                if isinstance(key, slice):
                    return Frame({name: values[key] for name, values in self.data.items()})
                return self.data[key]

            def __len__(self):
                return len(self.data[self.columns[0]])

            @property
            def shape(self):
                return len(self), len(self.columns)

        frame = Frame({name: table[name].to_numpy() for name in ("city", "temp")})
        density = CircuitDensity(epochs=2).fit(frame)
        assert isinstance(density.sample(3), Frame)


@pytest.mark.errors
class TestErrorsNameTheColumn:
    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01"]), "column 'odd' holds dates"),
            ([np.nan, np.nan, np.nan], "all values of column 'odd' are missing"),
            ([None, None, None], "all values of column 'odd' are missing"),
            ([1.0, np.inf, 2.0], "infinity in column 'odd'"),
            (["a", 2, "c"], "column 'odd' holds values of the types int, str"),
            ([1j, 2j, 3j], "column 'odd' holds complex"),
        ],
    )
    def test_at_fit(self, column, message):
        frame = pd.DataFrame({"fine": [1.0, 2.0, 3.0], "odd": column})
        with pytest.raises((ValueError, TypeError), match=message):
            CircuitDensity().fit(frame)

    def test_twice_the_same_name(self):
        frame = pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])
        with pytest.raises(ValueError, match="columns 'a' come more than once"):
            CircuitDensity().fit(frame)

    def test_at_prediction(self, density, table):
        with pytest.raises(ValueError, match=r"column .city. has the category .Bonn. in row 0.*unseen=.state"):
            density.score_samples(table[:1].assign(city="Bonn"))
        with pytest.raises(TypeError, match="column 'temp' holds 'warm' in row 0, where numbers"):
            density.score_samples(table[:1].assign(temp="warm"))
        with pytest.raises(ValueError, match=r"column 'visits' holds counts, and 2.5 is none"):
            density.score_samples(table[:1].assign(visits=2.5))
        with pytest.raises(ValueError, match="feature names"):
            density.score_samples(table.rename(columns={"temp": "heat"}))
        with pytest.raises(ValueError, match="feature names"):
            density.score_samples(table[["temp", "city", "visits", "member", "spend"]])
        with pytest.raises(ValueError, match="feature"):
            density.score_samples(table.drop(columns="temp"))
        with pytest.raises(ValueError, match="0 sample"):
            density.score_samples(table[:0])

    def test_unseen_categories_by_choice(self, table):
        state = CircuitDensity(unseen="state", epochs=2).fit(table)
        missing = CircuitDensity(unseen="missing", epochs=2).fit(table)
        odd = table[:1].assign(city="Bonn")
        assert np.isfinite(state.score_samples(odd)).all()
        np.testing.assert_allclose(missing.score_samples(odd), missing.score_samples(odd.assign(city=None)))

    def test_settings(self, table):
        for setting, message in [
            ({"structure": "forest"}, "structure is 'forest': it must be one of hidden_tree, mixture"),
            ({"unseen": "guess"}, "unseen is 'guess'"),
            ({"column_types": {"nowhere": "counts"}}, "column_types names 'nowhere'"),
            ({"column_types": {"temp": "numbers"}}, "column 'temp' is 'numbers'"),
            ({"column_types": {"temp": "counts"}}, "column 'temp' holds counts, and"),
        ]:
            with pytest.raises(ValueError, match=message):
                CircuitDensity(**setting).fit(table)
        with pytest.raises(ValueError, match="strategy is 'best'"):
            CircuitImputer(strategy="best").fit(table)
        with pytest.raises(ValueError, match="given names 'town'"):
            CircuitDensity(epochs=1).fit(table).sample(given={"town": "Rome"})
