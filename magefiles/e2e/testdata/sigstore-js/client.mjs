// Signs and verifies with sigstore-js as a program would that is written for the public Sigstore.
//
//   node client.mjs sign SIGNING_CONFIG FILE BUNDLE         the ID token is in SIGSTORE_ID_TOKEN
//   node client.mjs verify TRUSTED_ROOT FILE BUNDLE IDENTITY ISSUER
//   node client.mjs verify-tuf MIRROR ROOT CACHE FILE BUNDLE IDENTITY ISSUER
import { readFileSync, writeFileSync } from 'node:fs';
import { bundleFromJSON, bundleToJSON } from '@sigstore/bundle';
import { SigningConfig, TrustedRoot } from '@sigstore/protobuf-specs';
import { bundleBuilderFromSigningConfig } from '@sigstore/sign';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';
import { verify as verifyByTUF } from 'sigstore';

const json = (file) => JSON.parse(readFileSync(file, 'utf8'));
const literally = (text) => '^' + text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&') + '$';

const actions = {
  async sign(config, file, bundle) {
    const builder = bundleBuilderFromSigningConfig({
      signingConfig: SigningConfig.fromJSON(json(config)),
      identityProvider: { getToken: async () => process.env.SIGSTORE_ID_TOKEN },
      bundleType: 'messageSignature',
    });
    const made = await builder.create({ data: readFileSync(file) });
    writeFileSync(bundle, JSON.stringify(bundleToJSON(made)));
  },
  async verify(root, file, bundle, identity, issuer) {
    const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(json(root))));
    const entity = toSignedEntity(bundleFromJSON(json(bundle)), readFileSync(file));
    // The identity is a pattern to sigstore-js.
    verifier.verify(entity, { subjectAlternativeName: literally(identity), extensions: { issuer } });
  },
  async 'verify-tuf'(mirror, root, cache, file, bundle, identity, issuer) {
    await verifyByTUF(json(bundle), readFileSync(file), {
      tufMirrorURL: mirror, tufRootPath: root, tufCachePath: cache,
      certificateIdentityEmail: literally(identity), certificateIssuer: issuer,
    });
  },
};

try {
  await actions[process.argv[2]](...process.argv.slice(3));
} catch (error) {
  console.error(`${error.code ?? error.name}: ${error.message}${error.cause ? `: ${error.cause.message}` : ''}`);
  process.exit(1);
}
