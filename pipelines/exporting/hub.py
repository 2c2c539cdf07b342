"""A model on the Hugging Face hub, pushed by the hub's own client with the account it knows."""

from pathlib import Path
from tempfile import TemporaryDirectory

from envs.durable import new_folder
from pipelines.exporting.model_card import write_card
from pipelines.exporting.published_run import Model, save_published
from pipelines.refusal import first_line
from pipelines.source_error import SourceError

# Another checkpoint of an earlier push would be taken for the newest one.
_REPLACED = "checkpoints/*"
_NO_ACCESS = (401, 403)


def write_model(model: Model, folder: Path) -> Path:
    """Write a model and its card to a new folder, which appears whole or not at all.

    Raises:
        FileExistsError: if there is something at `folder`.
        OSError: if the disk refuses; nothing is left behind.
    """
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder}: is there already; nothing is overwritten")
    with new_folder(folder) as unfinished:
        save_published(model, unfinished)
        write_card(model, unfinished)
    return folder


def push_model(model: Model, repository: str, *, public: bool = False) -> str:
    """Push a model and its card to the hub, in one commit.

    The token is the client's own affair (``hf auth login``, or HF_TOKEN); nothing here sees it.

    Args:
        model: what is published.
        repository: USER/NAME; made if it is not there.
        public: whether one that is made is open to all.

    Returns:
        The address of the commit.

    Raises:
        ValueError: if the client is not installed, or knows no account that may write there.
        SourceError: if the hub cannot be reached, or refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HTTPError
    except ImportError as error:
        raise ValueError("hub= needs the hub's client: pip install -e '.[hub]'") from error
    api = HfApi(library_name="pricetaker")
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_published(model, folder)
        write_card(model, folder, repository)
        try:
            api.create_repo(repository, private=not public, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"{model.name}, checkpoint {model.checkpoint.folder.name}",
                delete_patterns=_REPLACED,
            )
        except (HTTPError, OSError) as error:
            if isinstance(error, HfHubHTTPError) and _status(error) in _NO_ACCESS:
                login = "`hf auth login`, or a token that may write in HF_TOKEN"
                raise ValueError(
                    f"hub={repository}: not allowed to write there: {login}"
                ) from error
            raise SourceError(f"hub={repository}: {first_line(error)}") from error
    return str(commit.commit_url)


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
