// `cargo xtask conform` starts the server and gives us everything that `twinhub env` prints.
export function env(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this through \`cargo xtask conform\``);
  return value;
}
