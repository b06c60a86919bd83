"""The lines of a notebook: a run's examples, search, and a folder that is extracted anew.

    make run                       # or: deponij run … --labels category --split group --out runs/sample
    python examples/notebook.py    # or cell by cell in an editor that knows `# %%`

Deponij does the extraction and the joining by id; what is learned from it, and with which library, is yours.
"""

# %% What a head learns from: features, labels and item ids, joined by id
import deponij

run = deponij.open_run("runs/sample")
X, y, ids = train = run.examples("mini-openclip", part="train", labels="category", split="group")
test = run.examples("mini-openclip", part="test", labels="category", split="group")
print(run, train, test, sep="\n")

# %% scikit-learn
from sklearn.linear_model import LogisticRegression

head = LogisticRegression(max_iter=1000).fit(X, y)
print(f"logistic regression: {head.score(test.X, test.y):.3f} of {len(test.ids)} test items")

# %% pandas: the examples, and everything known of all items
frame = train.frame()
print(frame.groupby("label").size().sort_values(ascending=False).head(3))
print(run.frame().groupby("split_group").size())

# %% PyTorch: classes are numbered alike in all parts
from torch.utils.data import DataLoader

features, numbers = next(iter(DataLoader(train.dataset(), batch_size=32, shuffle=True)))
print(tuple(features.shape), [train.classes[number] for number in numbers[:3]])

# %% Several backbones side by side
both = run.examples("mini-openclip", "mini-dinov2") if "mini-dinov2" in run.backbones else train
print(both)

# %% Items into a depot and out of it, with any backbone; what the depot knows is not computed again
view = deponij.extract("runs/sample/items", "mini-openclip", "view.h5", depot="depot")
store = deponij.FeatureStore("depot")
rows = store.read(list(view.keys[:4]), view.identity)["embedding"]
print(view, rows.shape)

# %% Search: by an item, and by words
index = deponij.Index.of(view, run.items)
like = index.search(index.vectors([ids[0]])[0], top=3, leave_out=[ids[0]])
backbone = deponij.load_backbone("mini-openclip", device="cpu")
words = index.search(backbone.embed_texts(["a crushed can"])[0].numpy(), top=3)
print([(hit.item_id, round(hit.score, 3), hit.metadata["category"]) for hit in (*like, *words)])

# %% A wrong name is answered by what there is
try:
    run.examples("mini-openclip", part="training")
except deponij.DeponijError as error:
    print(error)
