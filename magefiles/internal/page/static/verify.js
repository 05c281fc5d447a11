// A bundle that is dropped is verified at once; what was signed is hashed here and stays here.
import { digest, droppable } from "./page.js";

const form = document.getElementById("upload");
const file = document.getElementById("file");
const artifact = document.getElementById("artifact");

async function signed(one) {
  document.getElementById("digest").value = "sha256:" + await digest(one);
  document.getElementById("artifact-name").textContent = one.name;
}

file.addEventListener("change", () => { document.getElementById("file-name").textContent = file.files.length ? file.files[0].name : ""; });
artifact.addEventListener("change", () => { if (artifact.files.length) signed(artifact.files[0]); });
droppable(form, (one) => {
  if (!/\.(json|sigstore|bundle)$/.test(one.name)) return signed(one);
  const held = new DataTransfer();
  held.items.add(one);
  file.files = held.files;
  form.requestSubmit();
});
document.getElementById("results")?.scrollIntoView();
